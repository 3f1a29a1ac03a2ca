"""One module a library; each is started as a process of its own by `bench.harness`."""
