"""Looking inside: tables, drawings, diffs, profiles and a networkx view of graphs. Needs nothing but the graph."""
