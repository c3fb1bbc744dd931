"""The source of what exported modules are made of; see `jnas.networks.export`."""
