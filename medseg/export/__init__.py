"""Export: a trained bundle as a file or folder for other tools, verified right after it is written."""
