"""The façade: what the command line, a server and users' own code call."""
