package share

// Site is the name that our votes are under.
func (s *Share) Site() string { return s.config.Site }
