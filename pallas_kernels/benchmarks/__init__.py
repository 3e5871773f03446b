"""Times of the operators against other forms and public kernels."""
