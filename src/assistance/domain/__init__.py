"""The words of the flow as plain values: no I/O, no framework, nothing from the other stages."""
