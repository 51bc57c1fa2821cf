"""Normal images, masks and synthetic anomalies as triplets that any detector can train on."""
