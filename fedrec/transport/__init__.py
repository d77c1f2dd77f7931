"""Transport between machines: keys, connections and processes around Flower, which is imported when used."""
