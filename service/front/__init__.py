"""The application: who may enter, which protocol answers, what is documented."""
