"""What training and workers must agree on: manifests, pixels, the walk, bundle files and their store."""
