"""A server that judges photographs: HTTP, a queue, and a page to drop pictures on."""
