"""The Hugging Face Hub: publishing corpora and models, with cards."""
