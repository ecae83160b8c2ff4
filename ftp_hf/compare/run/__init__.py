"""What trains: from a config to the evidence of every run, interrupted and resumed."""
