"""The command line: parses, calls the engine, presents. No numerics here."""
