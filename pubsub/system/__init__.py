"""The process and its machine: memory, cores, descriptors, sockets, logs."""
