"""Wires the parts together: the one place that picks concrete ones. Every process starts here.

`parts` opens what every process needs; `relaying`, `consuming` and `conciliating` run the stages in processes of their
own, `embedded` all of them in one over the in-memory broker; `checks` says what is wrong with the servers.
"""
