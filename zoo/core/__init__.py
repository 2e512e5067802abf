"""The cellar: what every room uses and what uses none of them. Imports nothing else of this project."""
