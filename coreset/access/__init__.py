"""Who may call, where a spec may point, and which addresses may be reached."""
