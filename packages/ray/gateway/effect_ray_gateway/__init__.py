"""The gateway: the small driver inside a Ray cluster that places hosts and relays frames between them and supervisors.

It carries bytes and decides nothing: what is run, retried or given up is a supervisor's business. The wire protocol is
`docs/gateway-protocol.md`.
"""
