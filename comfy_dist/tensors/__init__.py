"""The tensor plane: tensors stay in the process that made them and are pulled by the one that needs them."""
