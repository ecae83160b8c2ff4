"""Methods of fine-tuning, side by side: trained alike, and evaluated in and out of distribution."""
