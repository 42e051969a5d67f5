"""The drivers and native backends of portcompat: one file a kernel facility."""
