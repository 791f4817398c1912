"""Documents of the contract, made from the code at the first request: OpenAPI, AsyncAPI, and a page on both."""
