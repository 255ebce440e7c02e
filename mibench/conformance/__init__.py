"""Does a plug-in keep the contract? Every rule is checked on tiny networks."""
