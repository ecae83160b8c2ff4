"""The pages and charts of a comparison, written from its evidence alone. No torch."""
