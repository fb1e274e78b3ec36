"""Reports: pictures and one page of what a study or a results table says."""
