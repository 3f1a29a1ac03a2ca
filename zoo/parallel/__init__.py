"""Meshes, sharding rules, compilation by jit and pmap, start of several processes."""
