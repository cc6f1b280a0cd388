"""From a prompt to numbers: token embeddings, lexical signs, and the vector that learned strategies see."""
