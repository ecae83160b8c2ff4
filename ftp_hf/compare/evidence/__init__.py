"""What a comparison found, as plain data, and what follows from it: differences, intervals, verdicts. No torch, no pages."""
