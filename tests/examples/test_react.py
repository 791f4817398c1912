"""The hook for React, with the real client and a stand-in for React that has useState and useEffect."""
