ANSWERS = "django_rehearsal answers:"
