"""How are many runs made from one plan, and what came of them?"""
