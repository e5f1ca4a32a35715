"""What training and workers must agree on, and nothing else: manifests, pixels, the walk, bundle files and their store."""
