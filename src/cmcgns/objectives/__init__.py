"""One file per pre-training method, over one small interface."""
