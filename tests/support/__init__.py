"""What tests share: tiny models, problems, data, launched workers, and a Hub on loopback."""
