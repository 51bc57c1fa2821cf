"""Where images come from: listing, splitting and loading them."""
