"""Files to jets: sources, columns, layouts, screens, reports."""
