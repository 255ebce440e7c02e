"""Does a plug-in keep the contract? Every rule is asked on tiny networks."""
