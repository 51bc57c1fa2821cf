"""The corpus: which sample is in which shard, making shards, the manifest and the card."""
