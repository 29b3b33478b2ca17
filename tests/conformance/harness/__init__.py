"""What the tests are made of: a server, raw connections, agents, cases."""
