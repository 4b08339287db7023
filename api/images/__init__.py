"""Reading uploaded images, in confined processes."""
