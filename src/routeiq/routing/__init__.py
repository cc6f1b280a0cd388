"""From a request to a decision; knows neither HTTP nor a provider."""
