"""A run as one HTML file: pictures, settings, conservation of counts, skill of each gene, domains and notices."""
