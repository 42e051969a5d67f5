"""Every backend answers as the executable model does, whatever is asked in whatever order."""

import select
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from portcompat import Port, sendn
from portcompat.conformance import rule
from portcompat.conformance._machine import PortMachine


@pytest.mark.skipif(not hasattr(select, "poll"), reason="poll(2) says what is ready: none here")
@rule(
    *("R064", "R065", "R079", "R080", "R082", "R084", "R088", "R090", "R091", "R092", "R095"),
    *("R096", "R097", "R098", "R099", "R100", "R101", "R102", "R103", "R104", "R105", "R106"),
    *("R107", "R108", "R109", "R112", "R113", "R114", "R115", "R118", "R119", "R120", "R121"),
    *("R122", "R126", "R132", "R141", "R144", "R146", "R147", "R148", "R149", "R150", "R154"),
    *("R156", "R157", "R158", "R159", "R160", "R161", "R163", "R165", "R167", "R168", "R169"),
    *("R170", "R171", "R172", "R176", "R177"),
)
@pytest.mark.deadline(400)  # to shorten a script that fails takes Hypothesis up to five minutes
def test_every_answer_is_the_models(backend: str, scale: Any) -> None:
    with Port(backend) as port:
        offered = port.features

    class Machine(PortMachine):
        features = offered

        def make_port(self, max_events: int) -> Port:
            return Port(backend, max_events=max_events)

        def sendn(self, ports: list[Port], events: int, user: object) -> tuple[int, list[int]]:
            return sendn(ports, events, user)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=scale(100, 2_500, 50_000),
            stateful_step_count=50,
            deadline=None,
            database=None,
            print_blob=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
            ],
        ),
    )
