"""A programmable OpenAI-compatible provider on a real socket, for demo, tests and benchmarks."""
