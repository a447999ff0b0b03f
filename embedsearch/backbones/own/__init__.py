"""Networks of the user's own: any torch module, any Keras model, in memory or made by code that they name."""
