"""What is declared, by name: registries, YAML files, recipes, settings, layouts.

Nothing is computed here.
"""
