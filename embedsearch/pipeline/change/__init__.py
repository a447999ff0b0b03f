"""What happens to an index after its build: adding, deleting, and folding both into a fresh index file.

A change writes new versions of the store, and one new manifest at its end makes them visible. Until then they belong to
nobody: readers go on with what their manifest names, and the next writer goes back to it.
"""
