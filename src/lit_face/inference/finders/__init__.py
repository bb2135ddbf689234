"""Face finders: a picture in, the boxes of its faces' landmarks out."""
