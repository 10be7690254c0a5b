"""What `assistance up` brings along: PostgreSQL, the sandbox, and the processes it starts."""
