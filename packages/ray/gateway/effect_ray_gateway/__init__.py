"""The gateway: a small program inside the Ray cluster that starts hosts and relays frames between hosts and
supervisors.

It decides nothing: supervisors decide what runs, what is retried and what fails. `docs/gateway-protocol.md` describes
the protocol.
"""
