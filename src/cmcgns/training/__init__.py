"""One loop for all methods: phases, optimiser, precision, checkpoints."""
