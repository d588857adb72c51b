from django.db import models


class Line(models.Model):
    text = models.CharField(max_length=100)

    class Meta:
        app_label = "green"
