from bench.peers.protocol import serve

serve(("nothinghere",), (), None)
